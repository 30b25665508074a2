"""An adviser by a language model: asked where its answer could matter, within a budget."""
