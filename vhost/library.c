/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/virtio_net.h>

#include <rte_vhost.h>

#include "vhost/check.h"
#include "vhost/connection.h"
#include "vhost/library.h"
#include "vhost/memory.h"
#include "vhost/relay.h"
#include "vhost/vhost_user.h"

/* Of the file, since librte_vhost calls back with no more than a vid. */
static struct {
	const struct port_ops *ops;

	/* The socket that librte_vhost serves. It has a name only while it is made. */
	char dir[48], path[64];
	bool registered;
	int fd; /* by which the relay connects to it */
} vhost = { .fd = -1 };

static struct device *
device_of(int vid)
{
	struct connection *c = relay_find(vid);

	return c != NULL ? &c->device : NULL;
}

/* All virtqueues are ready, for the first time or again. */
static int
on_new_device(int vid)
{
	struct connection *c = relay_find(vid);
	int ret;

	if (c == NULL || __atomic_load_n(&c->device.busy, __ATOMIC_RELAXED))
		return -EPROTO;
	device_set_running(&c->device, true);
	ret = vhost.ops->start(vhost.ops->guests, &c->device);
	if (ret == 0)
		__atomic_store_n(&c->was_guest, 1, __ATOMIC_RELEASE);
	else
		device_set_running(&c->device, false);
	return ret;
}

/* A virtqueue has stopped, or the connection ends. */
static void
on_destroy_device(int vid)
{
	struct device *d = device_of(vid);

	if (d != NULL)
		device_set_running(d, false);
}

static int
on_vring_state_changed(int vid, uint16_t vring, int enable)
{
	struct device *d = device_of(vid);

	if (d == NULL)
		return 0;
	device_enable_ring(d, vring, enable != 0);
	if (enable)
		vhost.ops->check(vhost.ops->guests, d);
	return 0;
}

/*
 * A message brings a call or kick descriptor. librte_vhost would write to a call descriptor
 * (vhost/notify.h), so it gets none; and it would stop a virtqueue in use until the message has
 * been dealt with, which is not necessary. Returns whether librte_vhost has nothing to do.
 */
static bool
keep_descriptor(struct device *d, struct vhost_user_context *context)
{
	uint16_t vring = context->message.payload.u64 & VHOST_USER_VRING;
	bool call = context->message.request == VHOST_USER_SET_VRING_CALL;
	int fd = context->nb_fds > 0 ? context->fds[0] : -1;
	bool in_use = device_has_enabled(d, vring);

	if (!call && context->message.request != VHOST_USER_SET_VRING_KICK)
		return false;
	if (call)
		device_set_call(d, vring, fd);
	else if (in_use && fd >= 0)
		close(fd);
	if (in_use || call) {
		context->nb_fds = 0;
		context->message.payload.u64 |= VHOST_USER_NO_FD;
	}
	return in_use;
}

/* Our worker sends the RARP. */
static bool
keep_announcement(struct device *d, const struct vhost_user_context *context)
{
	if (context->message.request != VHOST_USER_SEND_RARP)
		return false;
	__atomic_store_n(&d->announce, context->message.payload.u64 & VHOST_USER_MAC_MASK,
		__ATOMIC_RELEASE);
	return true;
}

/* Whether a message has nothing to do with what workers use of a guest. */
static bool
changes_nothing(const struct vhost_user_context *context)
{
	switch (context->message.request) {
	case VHOST_USER_GET_FEATURES:
	case VHOST_USER_GET_PROTOCOL_FEATURES:
	case VHOST_USER_SET_PROTOCOL_FEATURES:
	case VHOST_USER_GET_QUEUE_NUM:
	case VHOST_USER_SET_OWNER:
	case VHOST_USER_SET_VRING_ERR:
	case VHOST_USER_NET_SET_MTU:
	case VHOST_USER_GET_STATUS:
		return true;
	default:
		return false;
	}
}

/*
 * Before librte_vhost acts on a message, which the relay has checked. When librte_vhost fails to
 * carry it out, after_message() is not called: the device is in an unknown state, its guest stays
 * paused, and the relay refuses what else the front end sends.
 */
static enum rte_vhost_msg_result
before_message(int vid, void *message)
{
	struct device *d = device_of(vid);

	if (d == NULL)
		return RTE_VHOST_MSG_RESULT_ERR;
	__atomic_store_n(&d->busy, true, __ATOMIC_RELAXED);
	if (keep_descriptor(d, message) || keep_announcement(d, message))
		return RTE_VHOST_MSG_RESULT_OK; /* and after_message() is called */
	if (!changes_nothing(message)) {
		d->is_message_paused = true;
		device_pause(d);
	}
	return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
}

static enum rte_vhost_msg_result
after_message(int vid, void *message)
{
	const struct vhost_user_context *context = message;
	struct connection *c = relay_find(vid);

	if (c == NULL)
		return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
	/* librte_vhost forgets it likewise. */
	if (context->message.request == VHOST_USER_GET_VRING_BASE)
		device_set_call(&c->device, (uint16_t)context->message.payload.state.index, -1);
	if (context->message.request == VHOST_USER_SET_MEM_TABLE) {
		c->device.has_memory = true;
		memory_settle(&c->files, vid);
	}
	__atomic_store_n(&c->device.busy, false, __ATOMIC_RELAXED);
	if (c->device.is_message_paused) {
		c->device.is_message_paused = false;
		device_forget_absent(&c->device);
		device_resume(&c->device);
	}
	return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
}

static const struct rte_vhost_user_extern_ops message_ops = {
	.pre_msg_handle = before_message,
	.post_msg_handle = after_message,
};

static int
on_new_connection(int vid)
{
	struct connection *c = relay_claim(vid, vhost.ops->rcu);

	if (c == NULL)
		return -EPERM;
	return rte_vhost_extern_callback_register(vid, &message_ops, NULL);
}

static void
on_destroy_connection(int vid)
{
	struct device *d = device_of(vid);

	if (d != NULL) {
		vhost.ops->leave(vhost.ops->guests, d);
		device_close(d);
	}
	relay_release(vid);
}

static const struct rte_vhost_device_ops device_ops = {
	.new_device = on_new_device,
	.destroy_device = on_destroy_device,
	.vring_state_changed = on_vring_state_changed,
	.new_connection = on_new_connection,
	.destroy_connection = on_destroy_connection,
};

/*
 * What librte_vhost can do, less what was not asked for. UDP fragmentation is never offered: the
 * switch cannot finish it for a destination that does not know it, and a guest that is not offered
 * it does it itself. Legacy drivers that may leave checksums take VIRTIO_NET_F_GSO for all kinds of
 * segmentation at once (VIRTIO 1.1, 5.1.3.2), that of UDP too: it is not offered beside CSUM.
 */
uint64_t
library_not_offered(bool mergeable, bool tso, bool csum)
{
	uint64_t off = RTE_BIT64(VIRTIO_NET_F_HOST_UFO) | RTE_BIT64(VIRTIO_NET_F_GUEST_UFO);

	if (!mergeable)
		off |= RTE_BIT64(VIRTIO_NET_F_MRG_RXBUF);
	if (!tso)
		off |= RTE_BIT64(VIRTIO_NET_F_HOST_TSO4) | RTE_BIT64(VIRTIO_NET_F_GUEST_TSO4) |
			RTE_BIT64(VIRTIO_NET_F_HOST_TSO6) | RTE_BIT64(VIRTIO_NET_F_GUEST_TSO6) |
			RTE_BIT64(VIRTIO_NET_F_HOST_ECN) | RTE_BIT64(VIRTIO_NET_F_GUEST_ECN);
	if (csum)
		off |= RTE_BIT64(VIRTIO_NET_F_GSO);
	else
		off |= RTE_BIT64(VIRTIO_NET_F_CSUM) | RTE_BIT64(VIRTIO_NET_F_GUEST_CSUM);
	return off;
}

/* All that any socket may offer: the relay takes from it what one does not (connection.c). */
static int
offer_features(const char *path, const struct config *cfg)
{
	uint64_t off = library_not_offered(cfg->mergeable, cfg->tso, cfg->tx_csum);

	if (config_has_ports(cfg))
		off &= library_not_offered(true, true, true);
	return rte_vhost_driver_disable_features(path, off);
}

/* Of the protocol's features, those that guests of a switch have a use for. */
static int
offer_protocol_features(const char *path)
{
	return rte_vhost_driver_set_protocol_features(path, RTE_BIT64(VHOST_USER_PROTOCOL_F_MQ) |
		RTE_BIT64(VHOST_USER_PROTOCOL_F_LOG_SHMFD) | RTE_BIT64(VHOST_USER_PROTOCOL_F_RARP) |
		RTE_BIT64(VHOST_USER_PROTOCOL_F_REPLY_ACK) |
		RTE_BIT64(VHOST_USER_PROTOCOL_F_NET_MTU) | RTE_BIT64(VHOST_USER_PROTOCOL_F_STATUS));
}

/*
 * Make a socket that nobody but the relay can connect to: it has a name for a moment, in a
 * directory that is closed to others, and is reached by a descriptor after that.
 */
static int
start_back(const struct config *cfg)
{
	const char *home = access("/run", W_OK) == 0 ? "/run" : "/tmp";
	uint64_t features = 0, protocol_features = 0;
	int ret;

	snprintf(vhost.dir, sizeof(vhost.dir), "%s/vhost-switch-XXXXXX", home);
	if (mkdtemp(vhost.dir) == NULL)
		return -errno;
	snprintf(vhost.path, sizeof(vhost.path), "%s/relay", vhost.dir);
	ret = rte_vhost_driver_register(vhost.path, RTE_VHOST_USER_NET_COMPLIANT_OL_FLAGS);
	vhost.registered = ret == 0;
	if (ret == 0)
		ret = offer_features(vhost.path, cfg);
	if (ret == 0)
		ret = offer_protocol_features(vhost.path);
	if (ret == 0)
		ret = rte_vhost_driver_callback_register(vhost.path, &device_ops);
	if (ret == 0)
		ret = rte_vhost_driver_get_features(vhost.path, &features);
	if (ret == 0)
		ret = rte_vhost_driver_get_protocol_features(vhost.path, &protocol_features);
	if (ret == 0)
		ret = rte_vhost_driver_start(vhost.path);
	if (ret == 0)
		vhost.fd = open(vhost.path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	check_offer(features, protocol_features);
	unlink(vhost.path);
	rmdir(vhost.dir);
	return vhost.fd < 0 ? -EIO : 0;
}

int
library_open(const struct config *cfg, const struct port_ops *ops)
{
	vhost.ops = ops;
	memory_wake(ops->wake_fd);
	return start_back(cfg);
}

int
library_fd(void)
{
	return vhost.fd;
}

void
library_close(void)
{
	if (vhost.registered)
		rte_vhost_driver_unregister(vhost.path);
	vhost.registered = false;
	relay_close();
	if (vhost.fd >= 0)
		close(vhost.fd);
	vhost.fd = -1;
}
