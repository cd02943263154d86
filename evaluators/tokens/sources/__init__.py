"""Where documents come from besides files of text: a file of this folder is a source."""
