"""The confidence measures, a file each; the file's name is the measure's."""
