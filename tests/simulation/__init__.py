"""The mesh in one thread: real services, simulated broker, disk, network and time, by seed."""
