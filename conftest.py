"""Plugins that pytest only accepts at the root of the tree."""

pytest_plugins = ("pytester",)
