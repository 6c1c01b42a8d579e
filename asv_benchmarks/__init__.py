"""What is measured: the suite that asv runs, and other ways to do the same side by side."""
