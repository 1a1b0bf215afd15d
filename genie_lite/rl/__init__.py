"""The world as a Gymnasium environment. Importing this package makes `genie_lite/World-v0` known to Gymnasium."""

from genie_lite.rl.register import register_envs

register_envs()
