"""The ground floor: errors, registries, durable files, statistics, settings, text."""
