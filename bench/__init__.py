"""`bench`: which way of fine-tuning and which way of merging give the best multi-task model, and is it real?"""

__version__ = "0.1.0"
