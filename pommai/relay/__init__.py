"""The relay's side: speech-to-text, guardian, language model and text-to-speech around one turn."""
