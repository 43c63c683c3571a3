package main

import (
	"context"
	"path/filepath"

	"muster/broker/repo"
	"muster/broker/store"
)

// openStore opens the store and what lies beside it. The directory is this process's alone, wherever the store is.
func (s *server) openStore(ctx context.Context) (err error) {
	if s.cfg.Store != "" {
		if s.lock, err = store.Lock(s.cfg.Data); err != nil {
			return err
		}
	}
	if s.store, err = s.cfg.openStore(ctx); err != nil {
		return err
	}
	if s.images, err = repo.Open(filepath.Join(s.cfg.Data, "images")); err != nil {
		return err
	}
	s.ramdisks, err = repo.OpenFiles(filepath.Join(s.cfg.Data, "ramdisks"), nil)
	return err
}
