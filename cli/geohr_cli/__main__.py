"""`python -m geohr_cli` is `geohr`."""

from geohr_cli.main import main

main()
