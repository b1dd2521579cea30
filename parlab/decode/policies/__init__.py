"""The masking policies, a file each; the file's name is the policy's. ``policy`` has the interface."""
