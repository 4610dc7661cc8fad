"""The processes that an agent starts: training, a warm spare, TensorBoard; how they are started, watched and reaped."""
