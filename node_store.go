package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/badgerstore"
)

// openStore opens the data folder's store, which everything else stands on.
func (n *node) openStore() error {
	durability, err := store.ParseDurability(n.cfg.Durability)
	if err != nil {
		return err
	}
	n.store, err = badgerstore.Open(filepath.Join(n.cfg.Data, "db"), badgerstore.Options{
		Logger: n.log, Options: store.Options{Durability: durability, Committed: n.metrics.Committed},
	})
	if err != nil {
		return fmt.Errorf("data folder %s: %w", n.cfg.Data, err)
	}
	n.onStop(n.store.Close)
	return nil
}

// restore raises sessions, queues and retained messages of earlier runs.
func (n *node) restore(ctx context.Context) error {
	tenants, err := n.tenants(ctx)
	if err != nil {
		return err
	}
	started := time.Now()
	found, err := n.broker.Restore(ctx, tenants)
	if err != nil {
		return err
	}
	if found != (broker.Restored{}) {
		n.log.Info("restored", "sessions", found.Sessions, "subscriptions", found.Subscriptions, "messages", found.Messages,
			"retained", found.Retained, "wills", found.Wills, "dropped", found.Dropped, "took", time.Since(started).Round(time.Millisecond))
	}
	return nil
}

// tenants are the organisations that there are.
func (n *node) tenants(ctx context.Context) ([]broker.Tenant, error) {
	list, err := organisations(ctx, n.registry)
	tenants := make([]broker.Tenant, len(list))
	for i, o := range list {
		tenants[i] = broker.Tenant{Org: o.ID, Incarnation: o.Incarnation}
	}
	return tenants, err
}

// watchSpace keeps an eye on the disk: below the watermark messages that would
// have to be kept are refused, while there is still room to work.
func (n *node) watchSpace() {
	if n.cfg.MinFreeSpace == 0 {
		return
	}
	look := func() {
		free, err := freeSpace(n.cfg.Data)
		if err != nil {
			n.log.Error("free space not known", "err", err)
			return
		}
		short := free < uint64(n.cfg.MinFreeSpace)<<20
		if n.short.Swap(short) == short {
			return
		}
		n.broker.SetShort(short)
		if short {
			n.log.Error("storage is short: messages at QoS 1 and 2 are refused", "free_mib", free>>20, "min_free_mib", n.cfg.MinFreeSpace)
		} else {
			n.log.Info("storage has room again", "free_mib", free>>20)
		}
	}
	look()
	n.every(time.Second, look)
}

// freeSpace is what an ordinary user may still write to the disk of a folder, in
// bytes.
func freeSpace(dir string) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, err
	}
	return fs.Bavail * uint64(fs.Bsize), nil
}

// ready says why the broker should not be sent work.
func (n *node) ready() error {
	if n.short.Load() {
		return errors.New("storage is short")
	}
	if n.engine.Revision() == "" {
		return errors.New("there is no policy yet")
	}
	return nil
}
