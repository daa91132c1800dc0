"""What ROS messages say, read without ROS: from a node and from a bag alike, by the names of their fields."""
