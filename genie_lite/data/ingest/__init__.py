"""Videos in, shards out: plans, engines that read, the one packer."""
