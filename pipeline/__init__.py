"""The pipeline in which Heat deploys Heat."""
