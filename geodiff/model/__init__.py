"""The denoiser and what samples from it; tensors only, no geodata library."""
