"""A network of a study is scaled up a family, whose members are trained and measured: `nas scale`."""
