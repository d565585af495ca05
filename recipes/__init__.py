"""How the bundled models were made; nothing here is part of the package."""
