"""The command line: parser, decoders by name, composed configurations, devices."""
