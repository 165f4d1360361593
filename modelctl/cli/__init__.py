"""The command line: flags in, flows called, results and errors printed."""
