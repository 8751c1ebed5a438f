"""What is learned: inputs, loss, predictions and metrics of a task."""
