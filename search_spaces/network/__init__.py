"""The network that a closed configuration describes: its configuration, its module, its exported folder."""
