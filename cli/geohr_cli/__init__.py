"""The command line of geohr; one file a command."""
