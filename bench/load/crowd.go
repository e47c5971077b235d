package load

import (
	"context"
	"errors"
	"time"
)

// filtersPerPacket is how many filters go into one SUBSCRIBE.
const filtersPerPacket = 100

// Hold connects every identity and leaves it idle. The caller closes the
// Clients with Release, also after an error.
func Hold(ctx context.Context, t Target, identities []Identity) ([]*Client, error) {
	clients := make([]*Client, len(identities))
	err := together(ctx, len(clients), dialers, func(i int) (err error) {
		clients[i], err = Connect(ctx, t, identities[i], true)
		return err
	})
	return clients, err
}

// Crowd gives each client per subscriptions at QoS 0, to what filter says.
func Crowd(ctx context.Context, clients []*Client, per int, filter func(client, k int) string) error {
	return together(ctx, len(clients), dialers, func(i int) error {
		filters := make([]string, 0, filtersPerPacket)
		for k := range per {
			filters = append(filters, filter(i, k))
			if len(filters) == filtersPerPacket || k == per-1 {
				if err := clients[i].Subscribe(0, filters...); err != nil {
					return err
				}
				filters = filters[:0]
			}
		}
		return nil
	})
}

// Release cuts the connections of Hold.
func Release(clients []*Client) error {
	var errs []error
	for _, c := range clients {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// Churn subscribes and unsubscribes rate times a second until ctx is done, each
// time to another filter. It returns how often it did.
func Churn(ctx context.Context, c *Client, rate float64, filter func(n int) string) (int, error) {
	ticker := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return n, nil
		case <-ticker.C:
		}
		if err := c.Subscribe(0, filter(n)); err != nil {
			return n, err
		}
		if err := c.Unsubscribe(filter(n)); err != nil {
			return n, err
		}
	}
}
