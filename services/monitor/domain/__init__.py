"""When a figure is news: statistics with a bounded rate of false alarms; no I/O."""
