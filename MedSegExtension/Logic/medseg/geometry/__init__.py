"""Values in space: grids, volumes, resampling, components and morphology of masks. Light: numpy alone until a function
needs scipy or SimpleITK."""
