"""The benchmark suite: one file a topic, seeded data, time and peak memory."""
