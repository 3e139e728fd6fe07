"""What the library gains, and what others gain in the same place."""
