"""The command line. Only this package and `config.compose` use Hydra and OmegaConf."""
