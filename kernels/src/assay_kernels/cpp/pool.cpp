#include "pool.hpp"

#include <system_error>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <signal.h>
#define ASSAY_POSIX 1
#endif

namespace assay_kernels::ASSAY_SET {

namespace {

constexpr int kMaxThreads = 256;

// Never deleted: its threads sleep in it until the process ends.
std::atomic<Pool*> current{nullptr};

// The threads start with every signal blocked, so that signals go on reaching the program's own threads.
class SignalsBlocked {
#ifdef ASSAY_POSIX
  public:
    SignalsBlocked() {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

  private:
    sigset_t before_;
#endif
};

}  // namespace

Pool& Pool::instance() {
#ifdef ASSAY_POSIX
    // In the child of a fork the threads are gone and the mutex may be held by one of them, for ever.
    static const int registered = pthread_atfork(nullptr, nullptr, [] { current.store(nullptr); });
    (void)registered;
#endif
    Pool* pool = current.load(std::memory_order_acquire);
    if (pool == nullptr) {
        Pool* fresh = new Pool;
        if (current.compare_exchange_strong(pool, fresh)) return *fresh;
        delete fresh;  // another thread was first, and `pool` is now its
    }
    return *pool;
}

void Pool::run(Job& job) {
    {
        std::lock_guard lock(mutex_);
        start_threads(job.helpers_wanted);
        jobs_.push_back(&job);
        for (int i = 0; i < job.helpers_wanted; ++i) work_.notify_one();
    }
    job.work();
    std::unique_lock lock(mutex_);
    const auto waiting = std::find(jobs_.begin(), jobs_.end(), &job);
    if (waiting != jobs_.end()) jobs_.erase(waiting);
    done_.wait(lock, [&] { return job.helpers_inside == 0; });
}

void Pool::help() {
    std::unique_lock lock(mutex_);
    for (;;) {
        work_.wait(lock, [&] { return !jobs_.empty(); });
        Job& job = *jobs_.front();
        if (--job.helpers_wanted == 0) jobs_.pop_front();
        ++job.helpers_inside;
        lock.unlock();
        job.work();
        lock.lock();
        if (--job.helpers_inside == 0) done_.notify_all();
    }
}

void Pool::start_threads(int wanted) {
    const SignalsBlocked blocked;
    for (wanted = std::min(wanted, kMaxThreads); threads_ < wanted; ++threads_) {
        try {
            std::thread([this] { help(); }).detach();
        } catch (const std::system_error&) {
            return;  // the system has no thread left to give: those there are do the work
        }
    }
}

}  // namespace assay_kernels::ASSAY_SET
