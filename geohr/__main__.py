"""`python -m geohr` is the command `geohr`."""

from importlib import import_module

if __name__ == "__main__":
    # By name: the library imports nothing of the command line, which stands above it.
    import_module("geohr_cli.main").main()
