"""Where the pipeline meets the world: each module owns one kind of I/O."""
