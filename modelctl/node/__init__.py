"""What one machine holds of a model."""
