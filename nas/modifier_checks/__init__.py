"""Published methods of adaptation and compression against their references, one file for a few each."""
