"""Linear studies: tasks, methods and attackers of one matrix θ before a linear probe."""
