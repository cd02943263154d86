"""What users and attackers do wrong: real processes, each with limits on memory and time."""
