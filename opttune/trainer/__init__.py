"""What opttune knows of Lightning's Trainer."""
