package main

import (
	"context"
	"fmt"
	"path/filepath"

	"muster/broker"
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
	if s.ramdisks, err = repo.OpenFiles(filepath.Join(s.cfg.Data, "ramdisks"), nil); err != nil {
		return err
	}
	return s.openRepos()
}

// openRepos opens the store of install trees and the one of what is fetched from mirrors.
func (s *server) openRepos() (err error) {
	if s.trees, err = repo.OpenTrees(filepath.Join(s.cfg.Data, "trees"), nil); err != nil {
		return err
	}
	allow, err := prefixes(s.cfg.HookAllow)
	if err != nil {
		return usageError{fmt.Errorf("--hook-allow: %w", err)}
	}
	s.mirrors, err = repo.OpenMirrors(repo.MirrorConfig{Dir: filepath.Join(s.cfg.Data, "mirror"), Allow: allow, Log: s.log})
	return err
}

// maxRepoText is the largest file of a repo that a task reads.
const maxRepoText = 64 << 10

// repoFile reads a small file of an install tree, for the tasks that write one like it.
func (s *server) repoFile(r broker.Repo, name string) (string, error) {
	if r.Tree == "" {
		return "", fmt.Errorf("repo %s is no imported tree: muster repo import %s ISO", r.Name, r.Name)
	}
	return s.trees.ReadText(r.Tree, name, maxRepoText)
}

// sweepTrees removes what no repo's tree is made of any more.
func (s *server) sweepTrees() error {
	gone, err := s.trees.Sweep(s.broker.StoredTrees(), ramdiskGrace)
	if len(gone) > 0 {
		s.log.Info("swept files that no repo's tree is made of", "files", len(gone))
	}
	return err
}
