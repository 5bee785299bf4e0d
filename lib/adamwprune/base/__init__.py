"""What every other room uses: errors, files, the registry of members, small arithmetic."""
