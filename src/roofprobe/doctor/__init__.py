"""What is wrong with a machine or a link, found without load: rules over what was read or recorded."""
