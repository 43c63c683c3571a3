package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"muster/broker"
)

// ramdiskGrace is how long a file stays that no ramdisk names any more: a machine may have been told of it a moment
// ago and be loading it over a slow line, and an import may have sent it and name it next.
const ramdiskGrace = 24 * time.Hour

// lastOrder puts the ramdisk of --ramdisk behind those that operators import.
const lastOrder = 1000

// openRamdisk imports the directory of --ramdisk as the default of its architecture. When that fails, what was imported
// before is served on: a server must start on the day when somebody is building a ramdisk.
func (s *server) openRamdisk(ctx context.Context) error {
	// What ramdisks name is in use until now, however long the server was off.
	if _, err := s.ramdisks.Sweep(s.broker.StoredFiles(), ramdiskGrace); err != nil {
		return err
	}
	if err := s.sweepTrees(); err != nil {
		s.log.Error("sweep trees", "err", err) // what is spoilt of them is the repo's own trouble
	}
	if s.cfg.Ramdisk == "" {
		if len(s.broker.StoredFiles()) == 0 {
			s.log.Warn("no ramdisk: machines that should discover themselves find no kernel; say --ramdisk DIR, or muster ramdisk import")
		}
		return nil
	}
	err := s.importRamdisk(ctx, s.cfg.Ramdisk)
	if err == nil || len(s.broker.StoredFiles()) == 0 {
		return err
	}
	s.log.Error("the ramdisks of before are served on", "err", err)
	return nil
}

// importRamdisk is muster ramdisk import within the server.
func (s *server) importRamdisk(ctx context.Context, dir string) error {
	names, err := filesIn(dir)
	if err != nil {
		return fmt.Errorf("--ramdisk: %w", err)
	}
	r, err := readSource(ctx, names, "", nil, &bars{})
	if err != nil {
		return fmt.Errorf("--ramdisk: %w", err)
	}
	r.object.Name, r.object.Order = "default-"+r.object.Arch, lastOrder
	err = r.each(func(sum string, open func() (io.ReadCloser, error)) error {
		if _, err := s.ramdisks.Held(sum, ""); err == nil {
			return nil
		}
		f, err := open()
		if err != nil {
			return err
		}
		_, err = s.ramdisks.Import(f, sum)
		return errors.Join(err, f.Close())
	})
	if err != nil {
		return fmt.Errorf("--ramdisk: %w", err)
	}
	doc, err := r.documents()
	if err != nil {
		return err
	}
	objects, err := broker.ParseObjects(doc)
	if err == nil {
		_, err = s.broker.Apply(ctx, objects, "muster serve --ramdisk")
	}
	if err != nil {
		return fmt.Errorf("--ramdisk %s: %w", dir, err)
	}
	return nil
}

// sweepRamdisks removes every hour what nobody can be loading any more.
func (s *server) sweepRamdisks(ctx context.Context) error {
	t := time.NewTicker(time.Hour)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			gone, err := s.ramdisks.Sweep(s.broker.StoredFiles(), ramdiskGrace)
			for _, name := range gone {
				s.log.Info("swept a file that no ramdisk names", "sha256", name)
			}
			if err = errors.Join(err, s.sweepTrees()); err != nil {
				s.log.Error("sweep ramdisks and trees", "err", err)
			}
		}
	}
}
