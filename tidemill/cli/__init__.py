"""The command line: set up, run, use and watch a mesh on one machine."""
