"""From one video to clips: a pure function of the file and the settings, and the child process that runs it."""
