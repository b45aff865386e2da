"""What is laid around the converted files for a server."""
