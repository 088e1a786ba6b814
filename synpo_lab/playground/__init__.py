"""The playground: chat with the models of a run side by side. The models live in a process of their own."""
