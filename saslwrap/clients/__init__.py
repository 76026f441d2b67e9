"""Client libraries that others wrote, under a security layer: a module each, named after it."""
