"""Who answers scan and drill: one expert per file, made by name in `registry`. None invents what it did not see."""
