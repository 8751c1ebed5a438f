"""Import of weights from other libraries, and export of ours."""
