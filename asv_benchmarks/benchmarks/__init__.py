"""The benchmark suite: one file a topic, seeded data; time, peak memory and bytes an entity."""
