"""What changed between two dates, or between a result and footprints that exist."""
