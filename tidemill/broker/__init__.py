"""An embedded single-node broker that speaks the Kafka protocol, for laptops and tests."""
