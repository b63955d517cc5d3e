"""A deployment that has its app by name. The app needs much, and more than there is; its gateway does not."""
